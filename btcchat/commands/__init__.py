"""The commands of ``btcchat``, in the order of its help: one file each.

A file has ``add(commands)``, which adds a parser whose default ``run`` is the function that runs the command.
Only ``run`` has heavy imports, so that ``--help`` is fast.
"""

from btcchat.commands import (
    ask,
    augment,
    caption,
    chat,
    check,
    compare_encoders,
    data,
    evaluate,
    export,
    import_,
    plugins,
    report,
    scenes,
    score,
    serve,
    train,
)

COMMANDS = (
    *(caption, ask, chat, scenes, serve, data, augment, train, check, import_, export),
    *(evaluate, report, score, compare_encoders, plugins),
)

"""The commands of ``btcchat``, in the order of its help: one file each.

A file has ``add(commands)``, which adds a parser whose default ``run`` is the function that runs the command.
Only ``run`` imports what is heavy, so that ``--help`` comes at once.
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
    score,
    serve,
    train,
)

COMMANDS = (
    *(caption, ask, chat, serve, data, augment, train, check, import_, export),
    *(evaluate, report, score, compare_encoders, plugins),
)

"""What is used of a tower's output: layers (`mm_vision_select_layer`) and tokens (`mm_vision_select_feature`)."""

from btcchat.errors import BTCChatError, choose

# name -> how many leading tokens of a tower without a class token are dropped. 'patch' was made for towers
# with a class token; the published code drops the first token of SigLIP too, where it is a real patch.
SELECT_FEATURES = {"patch": 1, "cls_patch": 0}


def select_start(select_feature: str) -> int:
    """The index of the first token that is used. Raises BTCChatError for an unknown name."""
    return choose("mm_vision_select_feature", select_feature, SELECT_FEATURES)


def resolve_layers(select_layer: int | list[int], num_layers: int) -> list[int]:
    """Turn the selection into indices 0..num_layers: 0 is the embeddings, i the output of block i.

    Negative numbers count from the end, -1 being the last block's output (before the final norm). Raises BTCChatError
    for a layer that the tower does not have.
    """
    selected = [select_layer] if isinstance(select_layer, int) else list(select_layer)
    if not selected:
        raise BTCChatError("mm_vision_select_layer is empty; give one layer such as -2, or a list of them")
    for layer in selected:
        if not -num_layers - 1 <= layer <= num_layers:
            raise BTCChatError(
                f"mm_vision_select_layer {layer} is out of range: the vision tower has {num_layers} layers, "
                f"choose from {-num_layers - 1} to {num_layers} (0 is the embeddings)"
            )
    return [layer % (num_layers + 1) for layer in selected]

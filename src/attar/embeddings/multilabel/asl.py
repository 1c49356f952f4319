"""ASL and its relatives: losses of samples with several labels (placeholder)."""

ASL_SCRIPT = {}


def focal_loss(*a, **k): ...
def asymmetric_loss(*a, **k): ...

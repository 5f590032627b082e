"""A picture of a run's metrics."""

from pathlib import Path

from clip_jax.training.metrics import read_metrics


def draw_curve(metrics: Path, path: Path) -> None:
    """metrics.jsonl -> a PNG with the loss and the temperature's scale over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for line in read_metrics(metrics) if "loss" in line]
    steps = [line["step"] for line in lines]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    axes.plot(steps, [line["loss"] for line in lines], color="tab:blue", label="loss")
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    scale = axes.twinx()
    scale.plot(steps, [line["logit_scale"] for line in lines], color="tab:orange", lw=1)
    scale.set_ylabel("logit scale", color="tab:orange")
    figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot.close(figure)

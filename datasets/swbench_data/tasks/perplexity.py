"""ppl_book: windows of running prose, scored by the model's own probabilities."""

from swbench_data.cli import InputError
from swbench_data.counter_rng import CounterRng
from swbench_data.tasks.task import Job, Sample, Task
from swbench_data.tasks.text import TEXT


def make_windows(job: Job):
    """`samples` disjoint windows of exactly `context` tokens, one in each equal share of the text.

    The text is tokenised once, as a whole; each window is BOS and then running text.  Where in its
    share a window starts is drawn, so that another seed gives other windows.
    """
    model, text = job.model, job.material
    encoding = model.encode_prose(text)
    bos = [] if model.bos is None else [model.bos]
    length = job.context - len(bos)
    share = len(encoding) // job.samples
    if share < length:
        raise InputError(
            f"{text.source}: has {len(encoding)} tokens, expected at least "
            f"{job.samples * length} for {job.samples} windows of {job.context}; "
            f"ask for fewer samples or give a longer text"
        )
    rng = CounterRng(job.seed, job.task.name, job.context)
    ids, spans = encoding.ids, encoding.offsets
    samples = []
    for index in range(job.samples):
        start = index * share + rng.below(share - length + 1, index)
        samples.append(
            Sample(ids=bos + ids[start : start + length], origin=text.place(spans[start][0]))
        )
    return samples


TASKS = (Task("ppl_book", score="ppl", max_new_tokens=0, make=make_windows, material=TEXT),)

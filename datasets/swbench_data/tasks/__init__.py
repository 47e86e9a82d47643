"""The table of tasks. A new task is one row in its family's file; a new family is one name here."""

from swbench_data.tasks import (
    chain,
    echo,
    facts,
    graphwalks,
    latent,
    longbench,
    niah,
    perplexity,
    questions,
    variable_tracking,
    word_counts,
)

FAMILIES = (
    perplexity,
    niah,
    variable_tracking,
    chain,
    echo,
    facts,
    graphwalks,
    latent,
    word_counts,
    questions,
    longbench,
)
TASKS = {task.name: task for family in FAMILIES for task in family.TASKS}
# By option of prepare.py: what the families say their tasks are made from.
MATERIALS = {task.material.option: task.material for task in TASKS.values() if task.material}

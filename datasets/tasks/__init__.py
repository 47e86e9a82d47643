"""The table of tasks.  A new task is one row in its family's file and one name here."""

from tasks import niah, perplexity

TASKS = {task.name: task for task in (
    perplexity.PPL_BOOK,
    niah.SINGLE_1,
)}

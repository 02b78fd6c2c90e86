"""The head-to-head behind `python -m sluicegate`: one real program, then every operation beside its rivals.

    sources.py   the input of the program: the interpreter's own standard library
    program.py   the acts: the same code on the stdlib's classes and on ours, same answer demanded
    rows.py      the operations and their rivals
    contest.py   threads that want the same semaphore
    relay.py     items that pass from threads to threads
    timing.py    interleaved rounds, medians, ratios
    report.py    table and JSON;  plot.py  the ratios drawn;  progress.py  the line shown while it works

To add a row, add a `Row` to a section of `rows.py`; to add an act, add an `Act` to `program.ACTS`.
"""

"""Eight worker processes, at most three of them inside, and one is killed in the middle of its work.

    python examples/shared_cap.py

With `multiprocessing.BoundedSemaphore` the killed worker would take its permit with it, for ever.
"""

import os
import signal
import time

from sluicegate.multiprocessing import BoundedSemaphore, Process, Semaphore

WORKERS, CAP, TURNS = 8, 3, 3


def say(line: str) -> None:
    # In one piece, since others print too.
    print(f"{line}\n", end="", flush=True)


def work(number: int, limit: BoundedSemaphore, held: Semaphore) -> None:
    for turn in range(TURNS):
        with limit:
            # Every permit says whose it is, so the cap can be watched from within.
            inside = len(limit.holders())
            assert inside <= CAP
            say(f"worker {number} is inside, {inside} of {CAP}")
            if number == 5 and turn == 1:
                held.release()
                time.sleep(60)
            time.sleep(0.02)
    say(f"worker {number} is done")


def main() -> None:
    limit, held = BoundedSemaphore(CAP), Semaphore(0)
    workers = [Process(target=work, args=(number, limit, held)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    held.acquire()
    victim = workers[5].pid
    assert victim is not None and victim in [holder.pid for holder in limit.holders()]
    os.kill(victim, signal.SIGKILL)
    say("worker 5 was killed while it held a permit")
    for worker in workers:
        worker.join()
    ended = [worker.exitcode for worker in workers]
    assert ended == [-signal.SIGKILL if number == 5 else 0 for number in range(WORKERS)], ended
    say(f"all have ended: {limit}")
    assert limit.get_value() == CAP


if __name__ == "__main__":
    main()

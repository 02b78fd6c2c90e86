"""Select: one thread serves several channels, reports once in a while, and stops at a deadline.

    python examples/select_timeout.py [SECONDS]

Two sensors report at their own pace; the loop counts what they say, prints a line at every tick, and ends on time.
"""

import random
import sys
import threading
import time

from sluicegate import Channel, Closed, after, select, tick


def sensor(readings: Channel[float], pace: float) -> None:
    try:
        while True:
            time.sleep(pace * random.random())
            readings.send(random.gauss(20, 2))
    except Closed:  # nobody listens any more
        pass


def main(seconds: float) -> None:
    indoors, outdoors = Channel[float](8), Channel[float](8)
    sensors = [
        threading.Thread(target=sensor, args=(indoors, seconds / 40)),
        threading.Thread(target=sensor, args=(outdoors, seconds / 20)),
    ]
    for thread in sensors:
        thread.start()
    counts = {indoors: 0, outdoors: 0}
    beat, end = tick(seconds / 4), after(seconds)
    while True:
        channel, _ = select(indoors, outdoors, beat, end)
        if channel is end:
            break
        if channel is beat:
            print(f"indoors {counts[indoors]}, outdoors {counts[outdoors]}")
        else:
            counts[channel] += 1
    for readings in counts:
        readings.close()
    for thread in sensors:
        thread.join()
    print(f"{sum(counts.values())} readings")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)

"""Pub/Sub subscription → topic as Google's own client does it: a callback per message, publish, acknowledge once it is there.

python -m benchmarks.bare.pubsub_loop ADDRESS FROM TO
"""

from __future__ import annotations

import os
import sys
from itertools import count
from threading import Lock

from google.cloud import pubsub_v1


def main(address: str, source: str, target: str) -> None:
    os.environ["PUBSUB_EMULATOR_HOST"] = address
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    numbers, lock = count(1), Lock()

    def forward(message):
        def published(future):
            future.result()
            message.ack()
            with lock:
                done = next(numbers)
                if done % 20 == 0:
                    print(done, flush=True)

        publisher.publish(target, message.data).add_done_callback(published)

    subscriber.subscribe(source, callback=forward).result()


if __name__ == "__main__":
    main(*sys.argv[1:])

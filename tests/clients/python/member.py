"""One member of a group by kafka-python, which tells its history on standard output.

Runs under version 2.0.2 and the newest. Arguments: the client's keyword arguments as JSON, the member's name, its
group, its topic and the assignor (range). SIGTERM closes it in order.
"""

import json
import logging
import signal
import sys
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.errors import KafkaError

# Far longer than a rebalance takes here. kafka-python 3.0.12 forgets an assignment that arrives in the instant in which
# poll() gives up: the next poll() finds nothing to join, and the member spins for good without partitions.
POLL_MS = 3000

running = True


def stop(_signal, _frame):
    global running
    running = False


class Member(ConsumerRebalanceListener):
    def __init__(self, client, name, group, topic):
        self.group = group
        self.name = name
        self.done = {}
        self.consumer = KafkaConsumer(
            client_id=name,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
            max_poll_interval_ms=15000,
            **client
        )
        self.consumer.subscribe([topic], listener=self)

    def say(self, event, **fields):
        line = dict(at=time.monotonic_ns(), group=self.group, member=self.name, event=event, **fields)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def run(self):
        while running:
            for at, records in self.consumer.poll(timeout_ms=POLL_MS).items():
                for record in records:
                    self.say(
                        "record", partition=record.partition, offset=record.offset, value=record.value.decode()
                    )
                    self.done[at.partition] = record.offset + 1
            self.commit()
        self.commit()
        self.say("closing")
        self.consumer.close()
        self.say("closed")

    def commit(self):
        """Commits the positions, which are those after the records told last."""
        if not self.done:
            return
        try:
            self.consumer.commit()
            self.say("committed", offsets=[[partition, offset] for partition, offset in self.done.items()])
            self.done.clear()
        except KafkaError as refused:
            # A group that rebalances takes no commits; what was read is read again by the next owner.
            print("%s: %r" % (self.name, refused), file=sys.stderr, flush=True)

    def on_partitions_revoked(self, revoked):
        self.done.clear()
        self.say("revoked", partitions=[at.partition for at in revoked])

    def on_partitions_assigned(self, assigned):
        generation = self.consumer._coordinator._generation.generation_id
        self.say("assigned", generation=generation, partitions=[at.partition for at in assigned])


def main():
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, stop)
    client, name, group, topic, protocol = sys.argv[1:]
    assert protocol == "range", protocol
    Member(json.loads(client), name, group, topic).run()


main()

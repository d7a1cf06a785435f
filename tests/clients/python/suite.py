"""What an application does with a broker, by kafka-python.

Runs under version 2.0.2 and the newest, so it uses only what both have.
Arguments: the clients' keyword arguments as JSON, and a prefix for the names of topics.
Prints one line per check: PASS name, or FAIL name: reason.
"""

import json
import logging
import random
import sys
import time
import traceback

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

RECORDS = 300
PATIENCE = 60.0

failed = 0


def check(name):
    """Runs the decorated function at once and prints how it went."""

    def run(function):
        global failed
        try:
            function()
            print("PASS", name, flush=True)
        except Exception as error:
            failed += 1
            traceback.print_exc()
            print("FAIL %s: %s" % (name, repr(error).replace("\n", " ")), flush=True)

    return run


def record(number):
    """A key, a value and headers made from a number; half random, half repeating."""
    source = random.Random(number)
    length = source.randrange(1500)
    value = bytes(source.getrandbits(8) for _ in range(length // 2)) + bytes([number % 256]) * (length // 2)
    headers = [("number", str(number).encode()), ("empty", b"")]
    return ("key-%d" % number).encode(), value, headers


def send(client, topic, codec, first):
    producer = KafkaProducer(acks="all", compression_type=codec, linger_ms=5, **client)
    try:
        answers = []
        for number in range(first, first + RECORDS):
            key, value, headers = record(number)
            answers.append(
                producer.send(
                    topic,
                    value=value,
                    key=key,
                    headers=headers,
                    partition=0,
                    timestamp_ms=1_700_000_000_000 + number,
                )
            )
        producer.flush(timeout=PATIENCE)
        for number, answer in enumerate(answers, first):
            assert answer.get(timeout=PATIENCE).offset == number
    finally:
        producer.close()


def receive(client, topic, count):
    consumer = KafkaConsumer(enable_auto_commit=False, auto_offset_reset="none", check_crcs=True, **client)
    try:
        at = TopicPartition(topic, 0)
        assert consumer.beginning_offsets([at])[at] == 0
        assert consumer.end_offsets([at])[at] == count
        found = consumer.offsets_for_times({at: 1_700_000_000_000 + 123})[at]
        assert found.offset == 123, found
        consumer.assign([at])
        consumer.seek(at, 0)
        deadline = time.monotonic() + PATIENCE
        number = 0
        while number < count:
            assert time.monotonic() < deadline, "only %d of %d records" % (number, count)
            for got in consumer.poll(timeout_ms=1000).get(at, []):
                key, value, headers = record(number)
                assert got.offset == number, (got.offset, number)
                assert got.key == key and got.value == value, number
                assert list(got.headers) == headers, (got.headers, headers)
                assert got.timestamp == 1_700_000_000_000 + number
                number += 1
    finally:
        consumer.close()


def main():
    logging.basicConfig(level=logging.ERROR)
    client = json.loads(sys.argv[1])
    topic = sys.argv[2] + "suite"
    admin = KafkaAdminClient(**client)

    @check("create topic")
    def _():
        # The records carry timestamps of years ago, which retention by time would delete.
        configs = {"retention.ms": "-1", "retention.bytes": "123456789"}
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])

    @check("create topic again")
    def _():
        try:
            admin.create_topics([NewTopic(topic, 1, 1)])
        except TopicAlreadyExistsError:
            return
        raise AssertionError("it was created twice")

    @check("list and describe topics")
    def _():
        assert topic in admin.list_topics()
        described = admin.describe_topics([topic])[0]
        assert len(described["partitions"]) == 1, described

    for place, codec in enumerate([None, "gzip", "snappy", "lz4", "zstd"]):

        @check("send %s" % codec)
        def _():
            send(client, topic, codec, place * RECORDS)

    @check("receive every byte")
    def _():
        receive(client, topic, 5 * RECORDS)

    @check("create partitions")
    def _():
        admin.create_partitions({topic: NewPartitions(total_count=3)})

    @check("describe configs")
    def _():
        answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        assert "123456789" in str(answer), answer

    @check("delete topic")
    def _():
        admin.delete_topics([topic])

    admin.close()
    sys.exit(1 if failed else 0)


main()

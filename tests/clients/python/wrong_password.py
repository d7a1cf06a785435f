"""Logs in with a wrong password, as often as kafka-python tries by itself, and prints how each connection ended."""

import json
import logging
import os
import sys

from kafka.admin import KafkaAdminClient

TRIES = 8


class Ends(logging.Handler):
    """kafka-python tells why a connection ended nowhere but in its log."""

    seen = 0

    def emit(self, record):
        text = record.getMessage()
        if "Connection lost: " not in text:
            return
        print(text.split("Connection lost: ", 1)[1], flush=True)
        self.seen += 1
        if self.seen == TRIES:
            os._exit(0)


log = logging.getLogger("kafka")
log.addHandler(Ends())
log.propagate = False
settings = json.loads(sys.argv[1])
KafkaAdminClient(bootstrap_timeout_ms=60000, reconnect_backoff_ms=20, reconnect_backoff_max_ms=40, **settings)

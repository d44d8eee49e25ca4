"""Counts by gRPC: one add every INTERVAL seconds, through the sidecar.

Each add has a token, made once and sent again with every retry: however often the add is sent, it counts once.
"""

import os
import signal
import sys
import threading
import time
import uuid

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from tallyman.v1 import counter_pb2, counter_pb2_grpc

SIDECAR = "127.0.0.1:7777"
ATTEMPT_TIMEOUT_SECONDS = 5
DELAY_FIRST_SECONDS, DELAY_MAX_SECONDS = 0.1, 1.6
# Not acknowledged, applied or not. Everything else is a refusal, which sending again does not mend.
RETRIED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
# A sidecar that was away is connected to again as often as an add is tried again; by default, it could take 2 minutes.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1600),
    # Of no use to a connection within a pod.
    ("grpc.enable_http_proxy", 0),
]


class Failed(Exception):
    """A request was refused for a reason that sending it again does not mend, or is not sent again."""

    def __init__(self, error, lost):
        super().__init__(f"{error.code().name}: {error.details()}")
        # Whether an attempt before was not answered, which may have been carried out all the same.
        self.lost = lost


def retried(call, request, until=None):
    """Sends a request until it is answered or refused; nothing is sent again once the event `until` is set."""
    delay = DELAY_FIRST_SECONDS
    lost = False
    while True:
        try:
            # Waiting for the sidecar within the call: between calls, gRPC may take seconds to see that it is back.
            return call(request, timeout=ATTEMPT_TIMEOUT_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() not in RETRIED or (until and until.is_set()):
                raise Failed(error, lost) from error
            lost = lost or error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED
        time.sleep(delay)
        delay = min(2 * delay, DELAY_MAX_SECONDS)


def main():
    counter = {
        "namespace": os.environ.get("COUNTER_NAMESPACE") or "video-plays",
        "counter_name": os.environ.get("COUNTER_NAME") or "python",
    }
    name = counter["counter_name"]
    interval = float(os.environ.get("INTERVAL") or 1)
    times = int(os.environ.get("TIMES") or 0)

    # Ends the loop and its pauses, not a call: the add in flight is finished.
    terminated = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: terminated.set())

    with grpc.insecure_channel(SIDECAR, CHANNEL_OPTIONS) as channel:
        client = counter_pb2_grpc.CounterServiceStub(channel)
        added = 0
        while not terminated.is_set() and (times == 0 or added < times):
            generated = Timestamp()
            generated.GetCurrentTime()
            token = counter_pb2.IdempotencyToken(token=str(uuid.uuid4()), generation_time=generated)
            add = counter_pb2.AddCountRequest(**counter, delta=1, idempotency_token=token)
            try:
                retried(client.AddCount, add)
                added += 1
                try:
                    reply = retried(client.GetCount, counter_pb2.GetCountRequest(**counter), until=terminated)
                    print(f"{name} added 1, count {reply.count}", flush=True)
                except Failed as failed:
                    print(f"{name} added 1, and was not told the count: {failed}", file=sys.stderr, flush=True)
            except Failed as failed:
                maybe = ", and an attempt before may have counted" if failed.lost else ""
                print(f"{name} was refused{maybe}: {failed}", file=sys.stderr, flush=True)
            terminated.wait(interval)

    if os.environ.get("WHEN_DONE") == "sleep":
        terminated.wait()


if __name__ == "__main__":
    main()

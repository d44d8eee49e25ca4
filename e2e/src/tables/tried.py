"""Runs statements as a role, and prints how each ended: `done`, or the name of the error, as a JSON list."""

import json
import sys

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster

contact_points, _, username, password, *statements = sys.argv[1:]
hosts = [point.rsplit(":", 1) for point in contact_points.split(",")]
cluster = Cluster(
    [host for host, _ in hosts],
    port=int(hosts[0][1]),
    auth_provider=PlainTextAuthProvider(username, password),
)
session = cluster.connect()
ends = []
for statement in statements:
    try:
        session.execute(statement, timeout=60)
        ends.append("done")
    except Exception as error:
        ends.append(type(error).__name__)
print(json.dumps(ends))
cluster.shutdown()

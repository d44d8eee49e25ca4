"""Runs statements as a role, and prints what each answers: a JSON list of lists of rows, in their order, all values as text."""

import json
import sys

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster
from cassandra.query import dict_factory

contact_points, _, username, password, *statements = sys.argv[1:]
hosts = [point.rsplit(":", 1) for point in contact_points.split(",")]
cluster = Cluster(
    [host for host, _ in hosts],
    port=int(hosts[0][1]),
    auth_provider=PlainTextAuthProvider(username, password),
    protocol_version=4,
    connect_timeout=60,
    control_connection_timeout=60,
)
session = cluster.connect()
session.row_factory = dict_factory
answers = []
for statement in statements:
    rows = session.execute(statement, timeout=60)
    # Sets and maps are ordered by the driver, and so the same in each run.
    answers.append([{name: str(value) for name, value in row.items()} for row in rows])
print(json.dumps(answers))
cluster.shutdown()

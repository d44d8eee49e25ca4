"""What a query finds, as a JSON list of lists of texts."""

import json
import sys

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster

contact_points, _, username, password, query = sys.argv[1:]
hosts = [point.rsplit(":", 1) for point in contact_points.split(",")]
cluster = Cluster(
    [host for host, _ in hosts],
    port=int(hosts[0][1]),
    auth_provider=PlainTextAuthProvider(username, password),
)
rows = cluster.connect().execute(query, timeout=60)
print(json.dumps([[str(value) for value in row] for row in rows]))
cluster.shutdown()

# Runs statements in a keyspace, one after the other. Arguments: contact points, keyspace, statements.
import sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.query import SimpleStatement

points, keyspace = sys.argv[1:3]
points = [point.rsplit(":", 1) for point in points.split(",")]
cluster = Cluster([host for host, _ in points], port=int(points[0][1]), protocol_version=4, connect_timeout=60, control_connection_timeout=60)
session = cluster.connect(keyspace)
for statement in sys.argv[3:]:
    session.execute(SimpleStatement(statement, consistency_level=ConsistencyLevel.LOCAL_QUORUM), timeout=60)
cluster.shutdown()

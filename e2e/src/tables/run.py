# Runs statements in a keyspace, one after the other. Arguments: contact points, keyspace, statements.
import sys

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

points, keyspace = sys.argv[1:3]
cluster = connect(points)
session = cluster.connect(keyspace)
for statement in sys.argv[3:]:
    session.execute(SimpleStatement(statement, consistency_level=ConsistencyLevel.LOCAL_QUORUM), timeout=60)
cluster.shutdown()

# Sums up all events of a namespace, counter by counter: {"counter": "total"}.
# Arguments: contact points, keyspace, namespace, and user and password where they are asked for.
import collections, json, sys

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

points, keyspace, namespace, *user = sys.argv[1:]
cluster = connect(points, *user)
session = cluster.connect()
session.default_timeout = 60

tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
tables = [row.table_name for row in tables if row.table_name.startswith("events_")]
assert tables, "no table of events in " + keyspace

totals = collections.defaultdict(int)
seen = set()
for table in tables:
    query = SimpleStatement(
        f"SELECT namespace, counter_name, region, event_time, event_id, event_item_key, event_item_value FROM {keyspace}.{table}",
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        fetch_size=2000,
    )
    for row in session.execute(query):
        if row.namespace != namespace:
            continue
        assert row.event_item_key == 0, f"not an add: {row}"
        # A token has one event, in whatever slice, bucket or partition.
        token = (row.counter_name, row.event_id)
        assert token not in seen, f"two events of one token: {row}"
        seen.add(token)
        totals[row.counter_name] += int.from_bytes(row.event_item_value, "big", signed=True)
print(json.dumps({counter: str(total) for counter, total in totals.items()}))
cluster.shutdown()

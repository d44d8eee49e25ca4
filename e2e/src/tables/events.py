# Sums up all events of a namespace, counter by counter: {"counter": "total"}.
# Arguments: contact points, keyspace, namespace, and user and password where they are asked for.
import collections, json, sys

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster
from cassandra.policies import AddressTranslator
from cassandra.query import SimpleStatement

points, keyspace, namespace, *user = sys.argv[1:]
points = [point.rsplit(":", 1) for point in points.split(",")]
options = {"auth_provider": PlainTextAuthProvider(*user)} if user else {}
if len(points) == 1:
    # One node may be reached by a forwarded port alone, whatever address it goes by.
    class Here(AddressTranslator):
        def translate(self, address):
            return points[0][0]

    options["address_translator"] = Here()
cluster = Cluster([host for host, _ in points], port=int(points[0][1]), protocol_version=4, connect_timeout=60, control_connection_timeout=60, **options)
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

# Looks at all checkpoints over and over, until its input ends and once more after that. Prints a line for each that it sees
# anew, ["counter", last_rollup_ts, WRITETIME], and at the end {"looks", "failed_looks"}. Arguments: contact points, keyspace.
import json, select, sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.query import SimpleStatement

points, keyspace = sys.argv[1:3]
points = [point.rsplit(":", 1) for point in points.split(",")]
cluster = Cluster([host for host, _ in points], port=int(points[0][1]), protocol_version=4, connect_timeout=60, control_connection_timeout=60)
session = cluster.connect()
query = SimpleStatement(
    f"SELECT namespace, counter_name, region, checkpoint, WRITETIME(checkpoint) AS written FROM {keyspace}.rollup",
    consistency_level=ConsistencyLevel.LOCAL_QUORUM,
    fetch_size=2000,
)

seen = {}
looks = failed_looks = 0
is_last = False
while True:
    try:
        for row in session.execute(query, timeout=10):
            if row.checkpoint is None:
                continue
            # Version, time with its sign bit turned over, count.
            assert row.checkpoint[0] == 1 and len(row.checkpoint) == 25, row
            times = (int.from_bytes(row.checkpoint[1:9], "big") - (1 << 63), row.written)
            counter = f"{row.namespace}:{row.region}:{row.counter_name}"
            if seen.get(counter) != times:
                seen[counter] = times
                print(json.dumps([counter, *times]), flush=True)
        looks += 1
        if is_last:
            break
    except AssertionError:
        raise
    except Exception as error:
        failed_looks += 1
        print(error, file=sys.stderr)
    if select.select([sys.stdin], [], [], 0.2)[0]:
        is_last = True
print(json.dumps({"looks": looks, "failed_looks": failed_looks}))
cluster.shutdown()

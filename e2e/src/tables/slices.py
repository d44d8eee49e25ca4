# All records of slices with what is in their tables: events, partitions, bytes of the largest partition, and events that lie
# in a partition other than the slice's record says (null where there is no table). Arguments: contact points, keyspace.
import collections, json, sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.query import SimpleStatement

points, keyspace = sys.argv[1:3]
points = [point.rsplit(":", 1) for point in points.split(",")]
cluster = Cluster([host for host, _ in points], port=int(points[0][1]), protocol_version=4, connect_timeout=60, control_connection_timeout=60)
session = cluster.connect()
session.default_timeout = 60
# A cell's name, timestamp, flags and lengths, and a row's: more than Cassandra's format takes for them.
ROW_OVERHEAD_BYTES = 48


def read(columns, table):
    query = SimpleStatement(
        f"SELECT {columns} FROM {keyspace}.{table}", consistency_level=ConsistencyLevel.LOCAL_QUORUM, fetch_size=2000
    )
    return session.execute(query)


tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
tables = {row.table_name for row in tables}

slices = []
for row in sorted(read("*", "slices"), key=lambda row: row.slice_start):
    slice = {
        "start": row.slice_start,
        "end": row.slice_end,
        "buckets_per_id": row.buckets_per_id,
        "seconds_per_bucket": row.seconds_per_bucket,
        "accept_limit_us": row.accept_limit_us,
        "write_timeout_us": row.write_timeout_us,
        "state": row.state or 0,
        "contents": None,
    }
    table = f"events_{row.slice_start}"
    if table in tables:
        partitions = collections.Counter()
        events = misplaced = 0
        columns = "counter_name, time_bucket, event_bucket, event_time, event_id, event_item_value"
        for event in read(columns, table):
            events += 1
            partition = (event.counter_name, event.time_bucket, event.event_bucket)
            partitions[partition] += len(event.event_id) + len(event.event_item_value) + ROW_OVERHEAD_BYTES
            bucket = (event.event_time - row.slice_start * 1_000_000) // (row.seconds_per_bucket * 1_000_000)
            is_inside = row.slice_start * 1_000_000 <= event.event_time < row.slice_end * 1_000_000
            if not is_inside or event.time_bucket != bucket or not 0 <= event.event_bucket < row.buckets_per_id:
                misplaced += 1
        slice["contents"] = {
            "events": events,
            "misplaced": misplaced,
            "partitions": len(partitions),
            "largest_partition_bytes": max(partitions.values(), default=0),
        }
    slices.append(slice)
print(json.dumps(slices))
cluster.shutdown()

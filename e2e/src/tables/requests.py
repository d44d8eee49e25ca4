# Looks over and over at how many requests a node works on or has waiting, until its input ends. Prints the most seen, its own
# aside, and how often it looked. Arguments: contact points, keyspace.
import json, select, sys

from cassandra.cluster import Cluster

points = [point.rsplit(":", 1) for point in sys.argv[1].split(",")]
cluster = Cluster([points[0][0]], port=int(points[0][1]), protocol_version=4, connect_timeout=60, control_connection_timeout=60)
session = cluster.connect()
session.default_timeout = 60
most = looks = 0
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    pools = session.execute("SELECT name, active_tasks, pending_tasks FROM system_views.thread_pools")
    requests = sum(pool.active_tasks + pool.pending_tasks for pool in pools if pool.name == "Native-Transport-Requests")
    most = max(most, requests - 1)
    looks += 1
print(json.dumps({"most": most, "looks": looks}))
cluster.shutdown()

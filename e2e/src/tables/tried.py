"""Runs statements as a role, and prints how each ended: `done`, or the name of the error, as a JSON list."""

import json
import sys

contact_points, _, username, password, *statements = sys.argv[1:]
cluster = connect(contact_points, username, password)
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

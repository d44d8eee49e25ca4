"""Runs statements as a role, and prints what each answers: a JSON list of lists of rows, in their order, all values as text."""

import json
import sys

from cassandra.query import dict_factory

contact_points, _, username, password, *statements = sys.argv[1:]
cluster = connect(contact_points, username, password)
session = cluster.connect()
session.row_factory = dict_factory
answers = []
for statement in statements:
    rows = session.execute(statement, timeout=60)
    # Sets and maps are ordered by the driver, and so the same in each run.
    answers.append([{name: str(value) for name, value in row.items()} for row in rows])
print(json.dumps(answers))
cluster.shutdown()

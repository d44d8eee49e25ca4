# What the scripts have in front.
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster
from cassandra.policies import AddressTranslator


def connect(points, *user):
    """A cluster by its contact points, "host:port,…", with user and password where they are asked for."""
    points = [point.rsplit(":", 1) for point in points.split(",")]
    options = {"auth_provider": PlainTextAuthProvider(*user)} if user else {}
    if len(points) == 1:
        # One node may be reached by a forwarded port alone, whatever address it goes by.
        class Here(AddressTranslator):
            def translate(self, address):
                return points[0][0]

        options["address_translator"] = Here()
    hosts = [host for host, _ in points]
    patience = {"connect_timeout": 60, "control_connection_timeout": 60}
    return Cluster(hosts, port=int(points[0][1]), protocol_version=4, **patience, **options)



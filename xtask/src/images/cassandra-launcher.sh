#!/bin/sh
# As much of Cassandra's own launcher as a container needs: -f, -R, -D…, and MAX_HEAP_SIZE of the environment.
set -eu
home=/opt/cassandra
for option; do
  shift
  case $option in
    # It always stays in the foreground, and does not mind who runs it.
    -f | -R) ;;
    -D*) set -- "$@" "$option" ;;
    *)
      echo "cassandra: $option: not an option; there are -f, -R and -D…" >&2
      exit 1
      ;;
  esac
done
heap=${MAX_HEAP_SIZE:-600M}
# HEAP_NEWSIZE is of no use to this collector, and Cassandra's own launcher then ignores it, too.
exec java "@$home/conf/jvm.options" "-Xms$heap" "-Xmx$heap" -Dcassandra.storagedir=/var/lib/cassandra "$@" \
  -cp "${CASSANDRA_CONF:-/etc/cassandra}:$home/lib/*" org.apache.cassandra.service.CassandraDaemon

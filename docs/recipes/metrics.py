from prometheus_client import Counter, Gauge, Histogram
from pymongo.monitoring import CommandListener, ConnectionPoolListener, ServerHeartbeatListener

COMMANDS = Histogram("sessions_command_seconds", "Time of a command to MongoDB", ["command"])
FAILURES = Counter("sessions_command_failures", "Commands that failed", ["command", "error"])
CONNECTIONS = Gauge("sessions_connections", "Open connections of this process")
EXHAUSTED = Counter("sessions_pool_exhausted", "Calls that got no connection", ["reason"])
HEARTBEATS = Counter("sessions_heartbeat_failures", "Servers that did not reply to a heartbeat")


class Commands(CommandListener):
    def started(self, event):
        pass

    def succeeded(self, event):
        COMMANDS.labels(event.command_name).observe(event.duration_micros / 1_000_000)

    def failed(self, event):
        # The message of a server may quote a document, so only the name of the error is kept.
        error = event.failure.get("codeName") or event.failure.get("errtype") or "unknown"
        FAILURES.labels(event.command_name, error).inc()


class Connections(ConnectionPoolListener):
    def connection_created(self, event):
        CONNECTIONS.inc()

    def connection_closed(self, event):
        CONNECTIONS.dec()

    def connection_check_out_failed(self, event):
        EXHAUSTED.labels(event.reason).inc()

    def ignore(self, event):
        pass

    pool_created = pool_ready = pool_cleared = pool_closed = connection_ready = ignore
    connection_check_out_started = connection_checked_out = connection_checked_in = ignore


class Heartbeats(ServerHeartbeatListener):
    def started(self, event):
        pass

    def succeeded(self, event):
        pass

    def failed(self, event):
        HEARTBEATS.inc()


LISTENERS = [Commands(), Connections(), Heartbeats()]

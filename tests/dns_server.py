"""A DNS server that tells where a cluster is, or fails on demand."""

import socket
import threading
from contextlib import contextmanager

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

# The server that an SRV record names has to share its parent with the cluster. This one needs no
# look-up of its own.
HOST, SERVER = "cluster.0.0.1", "127.0.0.1."


class DNSServer:
    """Replies to queries for SRV and TXT records, in a thread."""

    def __init__(self, port):
        self.port = port  # of the MongoDB server
        # By type: a list of records, such as {"TXT": ["authSource=site"]}; the name of a response
        # code, such as "SERVFAIL"; or None for no reply.
        self.replies = {}
        self.queries = []  # the types that were asked for
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)

    def reply_well(self):
        self.replies = {"SRV": [f"0 0 {self.port} {SERVER}"], "TXT": []}

    def fail(self, how):
        self.replies = {"SRV": how, "TXT": how}

    def serve(self):
        while True:
            wire, sender = self.socket.recvfrom(4096)
            if not wire:  # the end
                return
            query = dns.message.from_wire(wire)
            [question] = query.question
            kind = dns.rdatatype.to_text(question.rdtype)
            self.queries.append(kind)
            reply, records = dns.message.make_response(query), self.replies[kind]
            if records is None:
                continue
            if isinstance(records, str):
                reply.set_rcode(dns.rcode.from_text(records))
            elif records:
                reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
            self.socket.sendto(reply.to_wire(), sender)

    @contextmanager
    def running(self):
        self.thread.start()
        try:
            yield self
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"", self.socket.getsockname())
            self.thread.join()
            self.socket.close()

    def use(self, monkeypatch):
        """Let dnspython ask this server alone, sync and async."""
        for module in (dns.resolver, dns.asyncresolver):
            resolver = module.Resolver(configure=False)
            resolver.nameservers, resolver.port = ["127.0.0.1"], self.socket.getsockname()[1]
            monkeypatch.setattr(module, "default_resolver", resolver)

"""A service that reports a task over gRPC and keeps it alive: python3-grpcio, python3-protobuf, protobuf-compiler. In a clone:

    protoc -I proto --python_out=. proto/taskdash/task/v1/*.proto
    PYTHONPATH=. python3 docs/examples/service.py 127.0.0.1:50051 tdt_…
"""
import random
import sys
import time

import grpc
from taskdash.task.v1 import lease_service_pb2 as leases
from taskdash.task.v1 import task_service_pb2 as tasks

TIMEOUT = 5
REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}


class TaskDash:
    """Registers one task under a lease, and does both again when the lease is gone."""

    def __init__(self, address, token, task):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")]
        self.task = task
        self.lease = None

    def call(self, service, method, request, answer):
        stub = self.channel.unary_unary(
            f"/taskdash.task.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub(request, metadata=self.metadata, timeout=TIMEOUT)

    def connect(self):
        self.lease = self.call("LeaseService", "GrantLease", leases.GrantLeaseRequest(), leases.GrantLeaseResponse).lease
        register = tasks.RegisterTaskRequest(task=self.task, lease_id=self.lease.id)
        self.call("TaskService", "RegisterTask", register, tasks.RegisterTaskResponse)

    def insist(self, work):
        """Does it, however long TaskDash is away: waits longer after each failure, and never as long as everybody else."""
        wait = 0.5
        while True:
            try:
                if self.lease is None:
                    self.connect()
                return work()
            except grpc.RpcError as error:
                if error.code() in REFUSED:
                    raise
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    self.lease = None
                time.sleep(wait * random.uniform(0.5, 1.5))
                wait = min(wait * 2, 10)

    def beat(self):
        renew = leases.RenewLeaseRequest(lease_id=self.lease.id)
        self.lease = self.call("LeaseService", "RenewLease", renew, leases.RenewLeaseResponse).lease

    def update(self, **changes):
        self.task.update(changes)
        update = tasks.UpdateTaskRequest(task={"id": self.task["id"], **changes}, lease_id=self.lease.id)
        self.call("TaskService", "UpdateTask", update, tasks.UpdateTaskResponse)

    def keep_alive(self, until):
        """Beats before each next one is due."""
        while time.monotonic() < until:
            self.insist(self.beat)
            pause = self.lease.next_beat_in.ToTimedelta().total_seconds()
            time.sleep(max(0, min(pause, until - time.monotonic())))

    def goodbye(self):
        """Whatever has not ended becomes "shutdown" at once."""
        revoke = leases.RevokeLeaseRequest(lease_id=self.lease.id)
        self.call("LeaseService", "RevokeLease", revoke, leases.RevokeLeaseResponse)


def main(address, token, seconds="30"):
    service = TaskDash(address, token, {"id": "python-example", "name": "python", "group_id": "mx", "status": "running"})
    service.keep_alive(time.monotonic() + float(seconds))
    service.insist(lambda: service.update(status="finish", stop_time=time.strftime("%Y-%m-%d %H:%M:%S")))
    service.insist(service.goodbye)
    print("finished")


if __name__ == "__main__":
    main(*sys.argv[1:])

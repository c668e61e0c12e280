"""A client in another language: registers, watches, lists and fails, and prints what it got as JSON.

Usage: grpc_client.py ADDRESS TOKEN. Builds its messages from proto/ with protoc, and calls without generated stubs.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"
FILES = ["taskdash/task/v1/task.proto", "taskdash/task/v1/task_service.proto", "google/rpc/error_details.proto"]
SERVICE = "/taskdash.task.v1.TaskService/"
STATUS_DETAILS = "grpc-status-details-bin"


def generate():
    folder = tempfile.mkdtemp()
    subprocess.run(["protoc", f"-I{ROOT}", f"--python_out={folder}", *FILES], check=True)
    (pathlib.Path(folder) / "google" / "rpc").mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, folder)
    # The installed google package must not hide the generated google.rpc.
    import google

    google.__path__.append(f"{folder}/google")


generate()
from google.rpc import error_details_pb2  # noqa: E402
from taskdash.task.v1 import task_service_pb2 as pb  # noqa: E402


def varint(data, position):
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if byte < 0x80:
            return value, position


def fields(data):
    """The length-delimited fields of a message, as (number, bytes); google.rpc.Status has nothing else of interest."""
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        if key & 7 == 0:
            _, position = varint(data, position)
            continue
        length, position = varint(data, position)
        yield key >> 3, data[position : position + length]
        position += length


def details(error):
    status = dict(error.trailing_metadata())[STATUS_DETAILS]
    found = {}
    for number, any_bytes in fields(status):
        if number == 3:
            parts = dict(fields(any_bytes))
            found[parts[1].decode().rsplit(".", 1)[1]] = parts.get(2, b"")
    return found


def describe(call, *keys):
    try:
        call()
    except grpc.RpcError as error:
        found = details(error)
        info = error_details_pb2.ErrorInfo.FromString(found["ErrorInfo"])
        told = {"code": error.code().name, "reason": info.reason}
        if "message" in keys:
            told["message"] = error.details()
        if "fields" in keys:
            told["fields"] = [v.field for v in error_details_pb2.BadRequest.FromString(found["BadRequest"]).field_violations]
        return told
    return "no error"


def main(address, token):
    channel = grpc.insecure_channel(address)
    metadata = [("authorization", f"Bearer {token}")]

    def unary(method, request, response, authorized=True):
        call = channel.unary_unary(SERVICE + method, request_serializer=request.SerializeToString, response_deserializer=response.FromString)
        return lambda: call(request, metadata=metadata if authorized else None, timeout=10)

    task = {"id": "from-python", "group_id": "mx", "name": "蟒蛇"}
    watch = channel.unary_stream(
        SERVICE + "WatchTasks",
        request_serializer=pb.WatchTasksRequest.SerializeToString,
        response_deserializer=pb.WatchTasksResponse.FromString,
    )
    registered = unary("RegisterTask", pb.RegisterTaskRequest(task=task), pb.RegisterTaskResponse)().task
    stream = watch(pb.WatchTasksRequest(task_ids=["from-python"]), metadata=metadata, timeout=20)
    watched = [next(stream).WhichOneof("message")]
    unary("UpdateTask", pb.UpdateTaskRequest(task={"id": "from-python", "status": "finish"}), pb.UpdateTaskResponse)()
    change = next(stream).change
    watched.append(f"change:{change.task.id}:{change.event.to_status}")
    stream.cancel()
    listing = pb.ListTasksRequest(filter={"id_prefix": "from-python"})
    listed = unary("ListTasks", listing, pb.ListTasksResponse)()
    print(
        json.dumps(
            {
                "registered": {"id": registered.id, "status": registered.status, "name": registered.name},
                "listed": [each.id for each in listed.tasks],
                "watched": watched,
                "missing": describe(unary("GetTask", pb.GetTaskRequest(id="nowhere"), pb.GetTaskResponse), "message"),
                "invalid": describe(
                    unary("RegisterTask", pb.RegisterTaskRequest(task={**task, "status": "x" * 65}), pb.RegisterTaskResponse), "fields"
                ),
                "anonymous": describe(unary("GetTask", pb.GetTaskRequest(id="x"), pb.GetTaskResponse, authorized=False)),
            }
        )
    )


main(*sys.argv[1:])

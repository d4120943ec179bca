"""What a case of the conformance suite asks of an answer."""
from support.wire import Message


def holds(check: str, got: dict, response: Message) -> bool:
    received = {}
    for name, value in got.get("fields", ()):
        received.setdefault(name.lower(), []).append(value)
    name, _, value = check.partition("=")
    if name == "to":
        return response.fields.get("Location") == value
    if name == "path":
        return got["target"] == value
    if name.startswith("<-"):
        return response.fields.get(name[2:]) is None
    if name.startswith("<"):
        return ",".join(response.fields.all(name[1:])).replace(", ", ",") == value
    if name.startswith("-"):
        return name[1:].lower() not in received
    return ",".join(received.get(name.lower(), ())).replace(", ", ",") == value

"""EC2's query protocol by botocore's own model: a form to values, values to XML.

docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html, and the example of an error in
errors-overview.html there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ERROR = (
    '<?xml version="1.0"?><Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error>'
    "</Errors><RequestID>lab</RequestID></Response>"
)


@cache
def model() -> ServiceModel:
    """Return botocore's description of EC2."""
    return ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")


def request(form: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the operation and the parameters of a form."""
    operation = form["Action"]
    shape = model().operation_model(operation).input_shape
    found = _parsed(shape, "", form)
    return operation, found if isinstance(found, dict) else {}


def answer(operation: str, values: Mapping[str, Any]) -> bytes:
    """Return an answer as XML."""
    shape = model().operation_model(operation).output_shape
    inner = _rendered(shape, values) if shape is not None else ""
    name = f"{operation}Response"
    text = f'<{name} xmlns="{NAMESPACE}"><requestId>lab</requestId>{inner}</{name}>'
    return f'<?xml version="1.0"?>{text}'.encode()


def refusal(code: str, message: str) -> bytes:
    """Return an error as XML."""
    return ERROR.format(escape(code), escape(message)).encode()


def _parsed(shape: Any, prefix: str, form: Mapping[str, str]) -> Any:
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            key = member.serialization.get("queryName")
            if not key:
                key = member.serialization.get("name", name)
                key = key[0].upper() + key[1:]
            value = _parsed(member, f"{prefix}.{key}" if prefix else key, form)
            if value is not None:
                found[name] = value
        return found or None
    if shape.type_name == "list":
        rows: list[Any] = []
        while (row := _parsed(shape.member, f"{prefix}.{len(rows) + 1}", form)) is not None:
            rows.append(row)
        return rows or None
    text = form.get(prefix)
    if text is None:
        return None
    if shape.type_name == "boolean":
        return text == "true"
    return {"integer": int, "double": float}.get(shape.type_name, str)(text)


def _rendered(shape: Shape, value: Any) -> str:
    if shape.type_name == "structure":
        return "".join(
            _element(member.serialization.get("name", name), member, value[name])
            for name, member in shape.members.items()  # type: ignore[attr-defined]
            if value.get(name) is not None
        )
    if shape.type_name == "list":
        return "".join(_element("item", shape.member, row) for row in value)  # type: ignore[attr-defined]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


def _element(name: str, shape: Shape, value: Any) -> str:
    return f"<{name}>{_rendered(shape, value)}</{name}>"

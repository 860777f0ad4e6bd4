"""Files of a role with their templates rendered on the control machine."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import lookup_loader


def rendered(
    file: dict[str, Any], *, variables: dict[str, Any], loader: Any, templar: Any
) -> dict[str, Any]:
    """An entry of a list of files, its `template` replaced by `content`."""
    rest = {key: value for key, value in file.items() if key not in ("template", "item")}
    if ("content" in file) == ("template" in file):
        raise AnsibleActionFail(f"{file.get('path')}: one of content and template is needed")
    if "content" in file:
        return rest
    lookup = lookup_loader.get("ansible.builtin.template", loader=loader, templar=templar)
    (content,) = lookup.run(
        [file["template"]], variables=variables, template_vars={"item": file.get("item")}
    )
    return {**rest, "content": content}

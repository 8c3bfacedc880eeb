"""The configuration: its file format, its sections with their documentation, checks, edits.

`load` reads both files; `live` holds what is in use and writes changes; `lookup` answers whose
address something is; `edit` has the changes that admins and users make; `describe` and
`examples` explain the files.
"""

from moxtw.config.jsonform import JSONError, from_json, json_value

__all__ = ["JSONError", "from_json", "json_value"]

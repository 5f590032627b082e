"""Profiler traces made up by hand."""


def plane(name, line, events):
    """An XSpace plane as text; events: (name, its "hlo_op" or None, start, end) in nanoseconds."""
    text, names = "", ""
    for number, (event, operation, start, end) in enumerate(events, 1):
        stats = f'stats {{ metadata_id: 9 str_value: "{operation}" }}' if operation else ""
        times = f"offset_ps: {start * 1000} duration_ps: {(end - start) * 1000}"
        text += f"events {{ metadata_id: {number} {times} {stats} }}"
        names += f'event_metadata {{ key: {number} value {{ id: {number} name: "{event}" }} }}'
    names += 'stat_metadata { key: 9 value { id: 9 name: "hlo_op" } }'
    return f'planes {{ name: "{name}" lines {{ name: "{line}" timestamp_ns: 0 {text} }} {names} }}'

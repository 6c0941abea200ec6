"""From a damaged recording to a restored one."""

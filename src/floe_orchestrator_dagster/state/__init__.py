"""Published state of a product and environment: manifest, run results and fingerprints, in a directory or object store.

    <url>/<product>/<environment>/latest.json           the name of the newest complete set
    <url>/<product>/<environment>/sets/<name>/          state.json (facts, fingerprints, digests of the other files),
                                                        manifest.json, run_results.json

A set is written under a name of its own, and ``latest.json`` afterwards. Therefore a reader finds a complete set or the
one before it. Names are ``<epoch>-<position>-<time>-<id>``, and ``latest.json`` names the last of them in alphabetical
order. The position is that of the newest event in Dagster's event log, so that the clocks of writers do not matter. The
epoch grows when the states come from another event log, or from one that has lost events. Old sets are removed at the
end.
"""

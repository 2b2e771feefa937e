#!/bin/sh
# Secrets come as files: NAME_FILE=/run/secrets/x sets NAME, for this process alone.
set -eu
for each in NAS_DATABASE_URL MLFLOW_BACKEND_STORE_URI AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY RAY_AUTH_TOKEN; do
  file=$(eval "printf %s \"\${${each}_FILE:-}\"")
  [ -n "$file" ] || continue
  [ -r "$file" ] || { echo "entrypoint: ${each}_FILE=$file cannot be read" >&2; exit 2; }
  export "$each=$(cat "$file")"
  unset "${each}_FILE"
done
exec "$@"

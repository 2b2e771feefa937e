#!/bin/sh
# Makes the secrets that compose.yaml hands to its services, each once: what is there stays.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
# Containers run as users of their own and read what they are given; the folder keeps others out.
keep() { [ -e "secrets/$1" ] || { printf %s "$2" > "secrets/$1" && chmod 0444 "secrets/$1"; }; }
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

keep postgres_password "$(random)"
password=$(cat secrets/postgres_password)
keep database_url "postgresql+psycopg://etnas:$password@postgres:5432/etnas"
keep mlflow_database_url "postgresql+psycopg://etnas:$password@postgres:5432/mlflow"
keep minio_user "etnas-$(random | head -c 8)"
keep minio_password "$(random)"
keep ray_token "$(random)"
echo "secrets/ holds what compose.yaml needs"

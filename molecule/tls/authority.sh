#!/bin/sh
# An authority, and two certificates of it: the ACME server's own, and one for a site.
set -eu
mkdir -p "$1"
cd "$1"

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

certificate() { # NAME SUBJECT-ALTERNATIVE-NAME
    key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    echo "subjectAltName=$2" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA authority.pem -CAkey authority.key -CAcreateserial \
        -days 365 -extfile "$1.ext" -out "$1.pem"
}

key authority.key
openssl req -x509 -key authority.key -days 365 -subj "/CN=the authority of a test" -out authority.pem
certificate server DNS:localhost
certificate given "DNS:*.given.example"

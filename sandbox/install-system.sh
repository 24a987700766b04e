#!/bin/sh
# Installs the real parts that some tests and the demo's e-mail use: Dovecot (IMAP), Postfix's smtp-sink, and Java for Spark.
# Needs apt-get and the right to use it; without them it says so and the tests that need the parts say why they skip.
set -u
missing=""
command -v dovecot >/dev/null 2>&1 || [ -x /usr/sbin/dovecot ] || missing="$missing dovecot-imapd dovecot-lmtpd"
command -v smtp-sink >/dev/null 2>&1 || [ -x /usr/sbin/smtp-sink ] || missing="$missing postfix"
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "install by hand:$missing (no apt-get here)"
  exit 0
fi
run=""
[ "$(id -u)" = 0 ] || run="sudo -n"
$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing \
  || echo "could not install:$missing"

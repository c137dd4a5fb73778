#!/bin/sh
# Wipes a host that served as the box of a drill: wipe.sh USER-TO-KEEP
set -eu
keep=$1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

for unit in $(systemctl list-unit-files --no-legend 'lifeboat-*' | cut -d' ' -f1); do
  case $unit in
    *@.*) systemctl stop "$(echo "$unit" | sed 's/@\./@*./')" ;;
    *) systemctl disable --quiet --now "$unit" ;;
  esac
done
rm -rf /etc/systemd/system/lifeboat-*
systemctl daemon-reload

getent passwd | while IFS=: read -r name _ uid _ _ _ _; do
  if { [ "$uid" -ge 1000 ] && [ "$uid" -lt 60000 ] && [ "$name" != "$keep" ]; } || [ "$name" = lifeboat-restore ]; then
    if pgrep -U "$uid" >/dev/null; then
      pkill -KILL -U "$uid"
      sleep 1
    fi
    userdel --force --remove "$name" 2>&1 | grep -v 'mail spool' >&2 || [ $? -eq 1 ]
    if getent passwd "$name" >/dev/null; then
      echo "$name could not be removed" >&2
      exit 1
    fi
  fi
done

rm -rf /run/lifeboat-restore* /run/lifeboat-drill* /var/lib/lifeboat* /var/tmp/lifeboat-* /etc/lifeboat* /opt/lifeboat* \
  /usr/local/lib/lifeboat-model-stub.py
if nft list table inet lifeboat_fence >/dev/null 2>&1; then nft delete table inet lifeboat_fence; fi
# In a container these may be mounts, which cannot be replaced.
for file in /etc/hosts /root/.ssh/authorized_keys; do
  [ -e "$file" ] || continue
  kept=$(sed -e '/ # lifeboat fence$/d' -e '/ lifeboat box [a-z0-9-]*$/d' "$file")
  printf '%s\n' "$kept" >"$file"
done

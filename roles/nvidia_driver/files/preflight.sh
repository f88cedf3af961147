#!/bin/sh
# Says why a driver of Debian's packages cannot be put here, and ends with 1; whatever it finds, it changes nothing.
# ROOT, a folder in which all is looked for, is for tests.
set -eu
root=${ROOT-}
export LC_ALL=C PATH=$root/bin:/usr/sbin:/usr/bin:/sbin:/bin

refuse() {
    echo "$1" >&2
    exit 1
}

for file in /usr/bin/nvidia-uninstall /usr/local/bin/nvidia-uninstall; do
    [ ! -e "$root$file" ] || refuse "a second driver is here, of NVIDIA's own installer: run $file, and then this again"
done

# The fifth byte says whether it is on; four of attributes come before it. Source: UEFI specification, 3.3 and 8.2
variable=$(find "$root/sys/firmware/efi/efivars" -name 'SecureBoot-*' 2>/dev/null | head -n 1)
if [ -n "$variable" ] && [ "$(od -An -tu1 -j4 -N1 "$variable" | tr -d ' ')" = 1 ]; then
    key=/var/lib/dkms/mok
    how="run \`mokutil --import $key.pub\`, and confirm it at the console in the next start"
    command -v mokutil >/dev/null || refuse "Secure Boot is on, and nothing can tell what it takes: install mokutil"
    [ -e "$root$key.pub" ] || refuse "Secure Boot is on, and there is no key to sign modules with: make one with \
\`openssl req -new -x509 -newkey rsa:2048 -nodes -days 36500 -subj '/CN=DKMS/' -keyout $key.key -outform DER -out \
$key.pub\`; then $how"
    mokutil --test-key "$root$key.pub" 2>/dev/null | grep -q 'is already enrolled' ||
        refuse "Secure Boot is on, and does not take modules that are signed with $key.key: $how"
fi

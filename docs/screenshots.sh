#!/usr/bin/env bash
# Draws pages of the built site at the widths of a desk and of a telephone, to look at them:
#
#   make site && bash docs/screenshots.sh index traffic strategies/scaffold
#
# Pictures are in build/screenshots. CHROMIUM names the browser, if it is called otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/screenshots
for page in "${@:-index}"; do
    for width in 1280 400; do
        "${CHROMIUM:-chromium}" --headless --disable-gpu --hide-scrollbars ${NO_SANDBOX:+--no-sandbox} \
            --window-size="$width,1600" --virtual-time-budget=3000 \
            --screenshot="build/screenshots/${page//\//-}-$width.png" \
            "file://$PWD/build/site/$page.html" 2>/dev/null
    done
done

# Installs a package, the first argument, with all that training takes.
#
# Images of TPU VMs have Python 3.10, which is too old, so uv gets another. All
# paths are absolute, as ssh runs commands without the PATH of a login.
set -euo pipefail
root=~/musiclm

if [[ ! -x $root/uv/bin/uv ]]; then
  python3 -m pip install --quiet --target "$root/uv" uv
fi
uv=$root/uv/bin/uv
"$uv" venv --quiet --allow-existing --python '>=3.11,<3.13' "$root/venv"
"$uv" pip install --quiet --python "$root/venv/bin/python" \
  --reinstall-package musiclm_jax "musiclm_jax[${EXTRAS:-train,tpu,gcs}] @ $1"
"$root/venv/bin/python" -c '
import musiclm_jax, sys
print(f"musiclm_jax {musiclm_jax.__version__}, Python {sys.version.split()[0]}")'

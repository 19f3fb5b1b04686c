# Two images from one file: `inference` (the default) and `finetune`. Build them with ./build.sh.
#
# BASE_IMAGE must carry Python 3.11 or newer and the torch of requirements.txt; it is never replaced by another build of
# torch. The default is for CUDA 12.6, which grand-challenge's T4 hosts need.
# API_METHOD, exec or invoke, is how grand-challenge starts the inference image; either can be run in both ways.
ARG BASE_IMAGE=pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime
ARG API_METHOD=exec

# --- packages -------------------------------------------------------------------------------------------------------
# A virtual environment over the base's own packages. An optional build secret `ca` is a bundle of certificates for
# networks that need their own.
FROM ${BASE_IMAGE} AS packages
USER root
RUN python3 -m venv --system-site-packages --without-pip /opt/venv
ENV PATH=/opt/venv/bin:${PATH} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.txt /tmp/requirements.txt
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python -m pip list --format=freeze | grep -E '^torch(vision)?==' > /tmp/base.txt \
    && wanted=$(sed -n 's/^torch==//p' /tmp/requirements.txt) \
    && if ! grep -qE "^torch==${wanted}(\+|$)" /tmp/base.txt; then \
         echo "BASE_IMAGE must carry torch ${wanted}; build with --build-arg BASE_IMAGE=... (see docs/deploy.md)" >&2; exit 1; \
       fi \
    && python -m pip install --constraint /tmp/base.txt --requirement /tmp/requirements.txt

# --- bill of materials ----------------------------------------------------------------------------------------------
FROM packages AS sbom
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --system-site-packages --without-pip /opt/sbom \
    && /opt/sbom/bin/python -m pip install --ignore-installed cyclonedx-bom==7.5.0
COPY pyproject.toml /tmp/pyproject.toml
RUN /opt/sbom/bin/cyclonedx-py environment --pyproject /tmp/pyproject.toml --mc-type application \
      --output-reproducible --output-format JSON --output-file /opt/sbom.cdx.json /opt/venv/bin/python

# --- what both images share -----------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime
USER root
COPY --from=packages /opt/venv /opt/venv
COPY --from=sbom /opt/sbom.cdx.json /opt/app/sbom.cdx.json
# HOME and USER serve any numeric user that a runner may choose; only /output and /tmp need to be writable.
ENV PATH=/opt/venv/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=uga
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --no-log-init --shell /usr/sbin/nologin uga \
    && mkdir -p /input /output /opt/ml/model /opt/holoscan /etc/holoscan /var/holoscan/input /var/holoscan/output \
    && chown uga:uga /output /var/holoscan/output \
    && ln -s /opt/app /opt/holoscan/app \
    && ln -s /opt/app/weights /opt/holoscan/models \
    && ln -s /opt/app/docs /opt/holoscan/docs
WORKDIR /opt/app
# --chmod: a checkout under a strict umask must still be readable for the image's user.
COPY --chmod=755 weights weights
COPY --chmod=755 README.md LICENSE CHANGELOG.md docs docs/
COPY --chmod=755 uga uga
RUN python -m compileall -q uga

# --- the images -----------------------------------------------------------------------------------------------------
FROM runtime AS finetune
ARG VERSION=0.0.0
ARG REVISION=unknown
COPY --chmod=755 finetune.py ./
RUN python -m uga.monai finetune.py /etc/holoscan
LABEL org.opencontainers.image.title="UGA fine-tuning" \
      org.opencontainers.image.description="Corrected patches in, a fine-tuned ensemble out. Research use only." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
ENTRYPOINT ["python", "/opt/app/finetune.py"]

FROM runtime AS inference-files
COPY --chmod=755 process.py ./
RUN python -m uga.monai process.py /etc/holoscan
EXPOSE 4743
USER 10001:10001
ENTRYPOINT ["python", "/opt/app/process.py"]

FROM inference-files AS api-exec
CMD []

FROM inference-files AS api-invoke
CMD ["--serve"]

FROM api-${API_METHOD} AS inference
ARG API_METHOD
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="UGA inference" \
      org.opencontainers.image.description="Whole-slide segmentation, uncertainty and ranked patches. Research use only." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.grand-challenge.api-method="${API_METHOD}"

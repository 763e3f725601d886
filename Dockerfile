# docker build -t lsg . && docker run --rm -v "$PWD":/work lsg train --epochs 1
# The newest Python for which expelliarmus, a dependency of tonic, has a wheel; the image has no compiler.
FROM python:3.11-slim
COPY . /src
# The version comes from git, which the image lacks: it may be passed as --build-arg VERSION=0.2.0.
ARG VERSION=0.1.0.dev0
RUN SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION pip install --no-cache-dir '/src[onnx,nir,shd,aedat4,pdf]' && rm -r /src
ENV XDG_CACHE_HOME=/work/.cache
WORKDIR /work
ENTRYPOINT ["lsg"]
CMD ["--help"]

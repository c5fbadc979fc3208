"""Installs the packages and scripts with pinned dependencies, by `pip install -e .` only (see build_backend.py).

What these depend on is pinned by constraints.txt (Python 3.9 to 3.11) and constraints-3.12.txt (3.12 and 3.13).
"""
import runpy

from setuptools import find_packages, setup

SCRIPTS = {'fingerprint-train': 'train', 'fingerprint-generate': 'generate', 'fingerprint-metrics': 'metrics',
           'fingerprint-release': 'release', 'fingerprint-dataset': 'dataset'}

OLDER = '; python_version < "3.12"'
NEWER = '; python_version >= "3.12"'
PSYCOPG = 'psycopg[binary]==3.2.12'
TIMESTAMPS = 'rfc3161-client==1.0.9'
SIGNING = ['model-signing==1.1.1; python_version >= "3.11"',  # older Pythons have none that goes with TensorFlow
           'pyopenssl==26.4.0; python_version >= "3.11"']      # the former imports it and does not require it
PKCS11 = ['PyKCS11==1.5.20; python_version >= "3.11"', 'asn1crypto==1.5.1; python_version >= "3.11"']
ONNX = ['tf2onnx==1.17.0; python_version >= "3.11"',  # with TensorFlow's protobuf on older Pythons, onnx does not go
        'onnx==1.18.0; python_version >= "3.11"',      # the last without ml-dtypes 0.5, which TensorFlow 2.15 refuses
        'onnxruntime==1.23.2; python_version >= "3.11"']
C2PA = 'c2pa-python==0.38.1; python_version >= "3.10"'  # there is none with this interface for 3.9
BEAM = 'apache-beam==2.68.0' + OLDER  # none goes with TensorFlow 2.21 and NumPy 2.4

setup(
    name='scalable-fingerprinting',
    version=runpy.run_path('dnnlib/version.py')['VERSION'],
    description='StyleGAN2 whose every copy signs its images: fingerprinted instances, registry, attribution',
    license='Apache-2.0',
    python_requires='>=3.9,<3.14',
    packages=find_packages(),
    package_data={'release.evidence': ['report.html', 'report.css']},
    py_modules=['run_training', 'run_generator', 'run_metrics', 'run_release', 'dataset_tool', 'console_scripts'],
    entry_points={'console_scripts': [f'{name} = console_scripts:{function}' for name, function in SCRIPTS.items()]},
    install_requires=[
        'tensorflow==2.15.1' + OLDER,
        'tensorflow==2.21.0' + NEWER,
        'tf-keras==2.21.0' + NEWER,
        'tensorboard==2.21.0' + NEWER,  # tf.summary is in it, and TensorFlow 2.21 no longer requires it
        'numpy==1.26.4' + OLDER,
        'numpy==2.4.6' + NEWER,
        'scipy==1.13.1' + OLDER,
        'scipy==1.17.1' + NEWER,
        'pillow==11.3.0',  # the same in both: which bytes an image file decodes to must not depend on the Python
        'absl-py==2.1.0',
        'tensorflow-datasets==4.9.3' + OLDER,
        'tensorflow-datasets==4.9.10' + NEWER,
        'tensorflow-metadata==1.15.0' + OLDER,  # newer ones need protobuf 5, which TensorFlow 2.15 refuses
        # Newer ones want Python 3.11, and pip backtracks for ten minutes where an index doesn't say so.
        'etils==1.5.2; python_version < "3.10"',
        'etils==1.13.0; python_version == "3.10"',
        'importlib-resources==7.1.0' + NEWER,  # TensorFlow Datasets' archives use it and do not require it
        'SQLAlchemy==2.0.44',
        'alembic==1.16.5',  # the last one for Python 3.9
        'cryptography==50.0.2',
        'Jinja2==3.1.6',
        'scikit-learn==1.6.1' + OLDER,
        'scikit-learn==1.9.1' + NEWER,
        'lmdb==1.7.3',
        'tqdm==4.67.1',
    ],
    extras_require={
        'test': ['pytest==8.4.2', 'pytest-xdist==3.8.0', 'ruff==0.14.4', 'hypothesis==6.141.1', 'mpmath==1.3.0',
                 'opencv-python-headless==4.11.0.86', 'tensorflow-addons==0.23.0' + OLDER, PSYCOPG, TIMESTAMPS,
                 C2PA, *SIGNING],
        'gpu': ['tensorflow[and-cuda]==2.15.1' + OLDER, 'tensorflow[and-cuda]==2.21.0' + NEWER],
        'postgresql': [PSYCOPG],
        'timestamps': [TIMESTAMPS],
        'signing': SIGNING,
        'pkcs11': [*SIGNING, *PKCS11],
        'onnx': ONNX,
        'c2pa': [C2PA],
        'beam': [BEAM],
    },
)

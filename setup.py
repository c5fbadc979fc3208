"""Installs the packages and scripts with pinned dependencies; constraints.txt pins what those depend on."""
from setuptools import setup

PACKAGES = ['dnnlib', 'dnnlib.ops', 'dnnlib.ops.native', 'fingerprints', 'datasets', 'metrics', 'models', 'training',
            'release', 'experiments', 'benchmarks']

setup(
    name='scalable-fingerprinting',
    version='0.1.0',
    description='StyleGAN2 whose every copy signs its images: fingerprinted instances, registry, attribution',
    license='Apache-2.0',
    python_requires='>=3.9,<3.12',
    packages=PACKAGES,
    py_modules=['run_training', 'run_generator', 'run_metrics', 'run_release', 'dataset_tool'],
    package_data={'dnnlib.ops.native': ['*.cc', '*.h', '*.cu.cc']},
    install_requires=[
        'tensorflow==2.15.1',
        'numpy==1.26.4',
        'scipy==1.13.1',
        'pillow==11.3.0',
        'absl-py==2.1.0',
        'tensorflow-datasets==4.9.3',
        'tensorflow-metadata==1.15.0',  # newer ones need protobuf 5, which TensorFlow 2.15 refuses
        'SQLAlchemy==2.0.44',
        'scikit-learn==1.6.1',
        'lmdb==1.7.3',
        'tqdm==4.67.1',
    ],
    extras_require={
        'test': ['pytest==8.4.2', 'ruff==0.14.4'],
        'gpu': ['tensorflow[and-cuda]==2.15.1'],
        'postgresql': ['psycopg[binary]==3.2.12'],
    },
)

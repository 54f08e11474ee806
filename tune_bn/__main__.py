from tune_bn.cli import main

main()

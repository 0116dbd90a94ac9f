process CELLSSL_HITS {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "cellssl:0.2.0"

    input:
    tuple val(meta), path(recipe), path(profiles)
    val store

    output:
    tuple val(meta), path("${prefix}/hits.csv"), emit: hits
    tuple val(meta), path("${prefix}/wells.csv"), emit: wells
    tuple val(meta), path("${prefix}/artifact.json"), emit: card
    tuple val("${task.process}"), val('cellssl'), eval('cellssl --version'), topic: versions, emit: versions_cellssl

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def table = profiles ? "--set hits.table.path=\"\$(readlink -f ${profiles})\"" : ''
    def results = store ? "--store '${store}'" : ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    export OMP_NUM_THREADS=${task.cpus}
    cellssl hits ${recipe} ${results} ${table} ${args} --output '${prefix}/'
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p '${prefix}'
    touch '${prefix}/hits.csv' '${prefix}/wells.csv' '${prefix}/artifact.json'
    """
}

process CELLSSL_INIT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "cellssl:0.2.0"

    input:
    tuple val(meta), path(images, stageAs: 'images/*'), path(platemap, stageAs: 'platemap/*')

    output:
    tuple val(meta), path("${prefix}/*.toml"), emit: recipe
    tuple val(meta), path("${prefix}/*.csv"), emit: tables
    tuple val(meta), path("${prefix}/*.json"), emit: schema
    tuple val("${task.process}"), val('cellssl'), eval('cellssl --version'), topic: versions, emit: versions_cellssl

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def compounds = platemap ? "--platemap ${platemap}" : ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    cellssl init ${images} ${compounds} ${args} --out '${prefix}'
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p '${prefix}'
    touch '${prefix}/recipe.toml' '${prefix}/fields.csv' '${prefix}/recipe.schema.json'
    """
}
